"""Monkey-patches with gevent before anything else is imported: ``pytest -p green_gevent --face gevent``."""

from gevent import monkey

monkey.patch_all()
