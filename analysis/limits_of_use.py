"""What every result says of its use: the one text, in three lengths."""

#: On every picture and page.
RESEARCH_USE = "Research use only. Perfusion is a surrogate derived from CT density."
#: Where a picture has room for no more.
BRIEF = "Research use only. Q is a surrogate from CT density."
#: In reports. The correlation is that of Castillo 2021, doi:10.1002/mp.14792.
LIMITS = (
    "Research use only; not for diagnosis. Perfusion Q is a surrogate derived from CT density (apparent mass change "
    "between expiration and inspiration), not a measurement of blood flow: as a surrogate of perfusion it agrees with "
    "SPECT with a median Spearman correlation of 0.49-0.57. V and Q are judged against the patient's own mean: "
    "disease that is the same everywhere is not seen in the fractions. Poor expiration, motion and misregistration "
    "change both maps."
)
