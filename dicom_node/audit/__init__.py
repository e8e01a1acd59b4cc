"""What happened in the node -> DICOM audit messages (PS3.15 A.5), in the database until the repository took them.

In: events, from whoever they happen to. Out: lines of syslog. Nothing waits for it; never imports `intake` or `jobs`.
"""
