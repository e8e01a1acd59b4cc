"""Numbers of many patients -> correlations with DLCO, groups, figures. Of `analysis`, knows its errors only."""
