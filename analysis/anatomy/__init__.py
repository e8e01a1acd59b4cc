"""A CT -> its lungs, airways and regions.

In: a Volume in HU. Out: labels on its grid. Knows no second phase.
"""
