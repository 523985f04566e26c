"""The explorer: a run in the browser of the person who sits at this machine.

`create_app` makes the application, `serve` runs it on the loopback address. ``guard`` holds what keeps others out,
``decoding`` what keeps films of strangers from doing harm.
"""
