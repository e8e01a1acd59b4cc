"""The database, the disk and the pulse of a node -> numbers and health, in the form that Prometheus and probes read.

In: what the other rooms wrote. Out: `/metrics`, `/livez`, `/readyz`. It changes nothing, and imports no room that acts.
"""
