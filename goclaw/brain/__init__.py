"""The brain: turns a conversation into the next answer, by way of the providers.

Promise: whatever model answers, a turn sees the same messages, chunks and errors (`core.chat`,
`errors.ProviderError`). It knows the core and nothing of its neighbours: tools, queue and policy reach it
only through `core.ports`.
"""
