"""Analysis -> DICOM objects.

case      what every object is made from: the pair's attributes, a date, the UIDs
codes     one table of every code
seg       classes and lungs -> Segmentation
report_sr measures -> Comprehensive 3D SR, TID 1500
build     all of them, in the order they are sent
"""
