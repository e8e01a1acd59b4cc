"""A connection -> DICOM messages (PS3.7, PS3.8), within limits of memory and time; associations of our own.

The only room that touches private names of pynetdicom. Knows no database: whoever listens hands in what is to be done.
"""
