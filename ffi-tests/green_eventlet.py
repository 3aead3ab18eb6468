"""Monkey-patches with eventlet before anything else is imported: ``pytest -p green_eventlet --face eventlet``."""

import warnings

with warnings.catch_warnings():
    # It announces its own deprecation.
    warnings.simplefilter("ignore")
    import eventlet

eventlet.monkey_patch()
