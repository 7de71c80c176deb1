"""
What a request costs, beside what one would take instead: ``tox -e bench``, or ``python -m tests.benchmarks``.

``cases.py`` is the list of what is measured. Each configuration of Django is a process of its own (worker.py), told in
turn to serve a block of requests, so that whatever else the machine does meets all of them alike. ``growth.py`` and
``serving.py`` measure signing in with many users, and requests over HTTP; ``report.py`` is the table and the picture.
"""
