;; Wants a function of the host that is not WASI.
(module
  (import "env" "launch" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
