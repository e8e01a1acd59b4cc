"""An Analysis -> pictures and pages, in one table of colours. Imported by whoever shows something."""
