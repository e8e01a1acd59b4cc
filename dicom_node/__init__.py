"""A DICOM node: paired inspiratory/expiratory CT in, V/Q results out."""
