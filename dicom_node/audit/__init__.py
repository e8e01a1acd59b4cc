"""Events in the node -> DICOM audit messages (PS3.15 A.5), kept in the database until the repository accepts them.

In: events from the other rooms. Out: lines of syslog. Nothing waits for it; it never imports `intake` or `jobs`.
"""
