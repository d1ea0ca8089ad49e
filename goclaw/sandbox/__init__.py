"""Where code that nobody vouches for runs: WASM modules (`wasm`) and processes (`process`).

The sandbox knows limits, not rules: whoever calls it has already been allowed to. It promises that a call ends within
its limits, that nothing of it runs on after the call has returned or was cancelled, and that a fault is a typed error
and never a crash of the daemon. It imports the core only, and wasmtime nowhere but here and not before the first call.
"""
