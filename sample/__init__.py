"""The built-in sample: short clips made from one public-domain photograph, to see affectline work.

It is a sample, not data: one person, warped by formula, in front of drawn scenes. Nothing learned
from it says anything about emotion.
"""
