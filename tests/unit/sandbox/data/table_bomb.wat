;; Asks for a table of a hundred million elements.
(module
  (table 100000000 funcref)
  (memory (export "memory") 1)
  (func (export "_start")))
