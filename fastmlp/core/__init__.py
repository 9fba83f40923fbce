"""Data structures shared by all packages; imports no other package of fastmlp."""
