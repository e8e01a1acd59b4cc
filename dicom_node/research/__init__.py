"""Files on disk -> results on disk, comparisons and cohorts, by the same steps as the node.

In: folders, archives and tables. Out: folders. No network, no database.
"""
