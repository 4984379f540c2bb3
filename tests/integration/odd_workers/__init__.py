"""Processors whose import goes wrong, for the tests to name in a topology."""
