"""Utilities: atomic files, threads, terminals, image shapes; imports no other package."""
