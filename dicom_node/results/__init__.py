"""An Analysis -> DICOM objects, its record and its tables; one file a kind of object, one row each in `kinds`.

In: an Analysis and the attributes of its images. Out: data sets, and the files of a folder. No network, no database.
"""
