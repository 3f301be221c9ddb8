"""The library that turns pixels and samples into arrays: it knows no path of the project."""
