"""Scoring at scale: many images in parts that a killed run, or another process, goes on from."""
