"""Murano's common library of 2014, on the native client of :mod:`murano_messaging`."""
