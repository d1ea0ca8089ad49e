;; A shared memory would escape the memory limit.
(module
  (memory (export "memory") 1 10 shared)
  (func (export "_start")))
