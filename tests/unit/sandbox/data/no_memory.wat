;; A command without memory.
(module
  (func (export "_start")))
