"""Analysis -> DICOM objects.

case            what every object is made from: the pair's attributes, a date, the UIDs
codes           one table of every code
seg             classes and lungs -> Segmentation, BINARY or LABELMAP
image_library   both series -> the report's Image Library
report_sr       measures -> Comprehensive 3D SR, TID 1500
report_text     measures -> Basic Text SR
capture         colour pictures of the slices, summary page -> Secondary Capture
report_pdf      report of two pages -> Encapsulated PDF
parametric_map  V, Q, m, V/Q, Jacobian -> Parametric Map, float
key_objects     summary and worst slices -> Key Object Selection
build           all that is asked for, in the order they are sent
"""
