"""One port for every client: WebSocket and HTTP faces of the same methods.

Nothing here decides or stores; it checks who asks, calls the organs through their ports and answers. Only this package
imports starlette and uvicorn.
"""
