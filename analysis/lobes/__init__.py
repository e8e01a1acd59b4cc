"""A CT and its lungs -> the fissures, and the lobes between them, each with how firmly it stands.

In: HU and lung labels. Out: labels of lobes and how much of every fissure is seen. Knows no second phase, no network.
"""
