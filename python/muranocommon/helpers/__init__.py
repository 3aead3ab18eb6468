"""Helpers of Murano's common library."""
