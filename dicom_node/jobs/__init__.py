"""A pair -> a job: one table of states and moves, the process that works on it, and the patient's earlier results.

In: pairs that `studies` decided on. Out: results, queued for `delivery`. It never imports `studies` or `intake`.
"""
