"""Centered nudging: CHL between a phase pushed away from the outcome and one drawn to it as much."""

from unrolled.cortex.rate.chl import contrast
from unrolled.cortex.rate.rule import Rule

centered = Rule("centered", 2, contrast)
"""dw = (x^b y^b - x^-b y^-b) / 2b (Laborieux et al. 2021; cortex fact sheet, section 8.1): error of order b^2, where the
one-sided rules' is of order b."""
