"""Two CTs -> an Analysis: `pipeline.analyse` calls every room before it, in order."""
