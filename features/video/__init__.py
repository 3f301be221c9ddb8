"""Video files in, arrays out."""
