"""Whole files, threads, terminals, shapes of images: what any layer may use and what knows none."""
