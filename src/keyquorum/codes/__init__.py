"""The code service: sends a code by e-mail or SMS and signs that it came back. Its own process, independent of nodes.

A network's nodes believe k of m such services, each with its own operator, key and way of sending. Read `service.py`
first (what is asked and answered), then `ledger.py` (what bounds guessing and sending), `drivers.py` (how it
is sent). Spec: spec/codes.md.
"""
