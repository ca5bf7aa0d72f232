"""`skim doctor`: looks at everything Docker needs of this host and says what is wrong and what to do. It never changes anything.

Each module looks after one group of checks: `gather` reads facts through a `Probe`, `checks` is pure and turns them into findings.
"""
