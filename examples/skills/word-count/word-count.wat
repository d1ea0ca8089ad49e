;; Counts bytes, characters, words and lines of a text.
(module
  (;include text.wat;)
  (data (i32.const 64) "{\"bytes\":")
  (data (i32.const 80) ",\"characters\":")
  (data (i32.const 96) ",\"words\":")
  (data (i32.const 112) ",\"lines\":")
  (data (i32.const 128) "}")
  (global $out (mut i32) (i32.const 1024))

  ;; Append `length` bytes at `start` to the answer.
  (func $say (param $start i32) (param $length i32)
    (memory.copy (global.get $out) (local.get $start) (local.get $length))
    (global.set $out (i32.add (global.get $out) (local.get $length))))

  ;; Append `number` in decimal, made from its last digit on in the 16 bytes below 256.
  (func $say_number (param $number i32)
    (local $at i32)
    (local.set $at (i32.const 256))
    (loop $more
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $more (local.get $number)))
    (call $say (local.get $at) (i32.sub (i32.const 256) (local.get $at))))

  ;; Space, and what lies from tab to carriage return.
  (func $is_blank (param $byte i32) (result i32)
    (i32.or
      (i32.eq (local.get $byte) (i32.const 32))
      (i32.lt_u (i32.sub (local.get $byte) (i32.const 9)) (i32.const 5))))

  (func (export "_start")
    (local $length i32) (local $at i32) (local $end i32) (local $byte i32) (local $inside i32)
    (local $characters i32) (local $words i32) (local $lines i32)
    (local.set $length (call $read_text))
    (local.set $at (global.get $INPUT))
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (block $done
      (loop $more
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.load8_u (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        ;; Every byte of UTF-8 begins a character unless its first two bits are 10.
        (local.set $characters
          (i32.add (local.get $characters)
            (i32.ne (i32.and (local.get $byte) (i32.const 0xc0)) (i32.const 0x80))))
        (local.set $lines (i32.add (local.get $lines) (i32.eq (local.get $byte) (i32.const 10))))
        (if (call $is_blank (local.get $byte))
          (then (local.set $inside (i32.const 0)))
          (else
            (local.set $words (i32.add (local.get $words) (i32.eqz (local.get $inside))))
            (local.set $inside (i32.const 1))))
        (br $more)))
    ;; A last line counts even where no line feed ends it.
    (if (local.get $length)
      (then
        (local.set $lines
          (i32.add (local.get $lines)
            (i32.ne (i32.load8_u (i32.sub (local.get $end) (i32.const 1))) (i32.const 10))))))
    (call $say (i32.const 64) (i32.const 9))
    (call $say_number (local.get $length))
    (call $say (i32.const 80) (i32.const 14))
    (call $say_number (local.get $characters))
    (call $say (i32.const 96) (i32.const 9))
    (call $say_number (local.get $words))
    (call $say (i32.const 112) (i32.const 9))
    (call $say_number (local.get $lines))
    (call $say (i32.const 128) (i32.const 1))
    (call $write (i32.const 1) (i32.const 1024) (i32.sub (global.get $out) (i32.const 1024)))))
