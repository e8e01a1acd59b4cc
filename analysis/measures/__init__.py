"""Maps and regions -> one table of numbers, and findings on whether they can be believed."""
