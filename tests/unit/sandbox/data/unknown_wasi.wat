;; Wants a WASI function that does not exist.
(module
  (import "wasi_snapshot_preview1" "fork" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
