"""V/Q maps from a pair of non-contrast CT volumes: arrays in, arrays out."""
