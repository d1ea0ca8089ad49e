"""The pure heart: values and judgements, no I/O, no asyncio, no clock.

What is here can be tested with a table. Time, randomness and identity come in as arguments. It may import only
`goclaw.errors` and the pure part of the standard library.
"""
