"""Files of anybody -> headers, pixels and masks that may be trusted; arrays -> CT series.

In: paths. Out: `model.Header`, `analysis.Volume`, data sets without identity. No network, no database.
"""
