"""A connection -> DICOM messages (PS3.7, PS3.8), within limits of memory and time; also associations to peers.

This is the only room that uses private names of pynetdicom. It knows no database: its callers pass in the handlers.
"""
