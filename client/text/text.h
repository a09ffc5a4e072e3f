/* Text for terminals: peers' strings made harmless, widths, hexadecimal, times and amounts as
 * people read them. */
#ifndef POSTERN_TEXT_TEXT_H
#define POSTERN_TEXT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define TEXT_TIME_SIZE 40
#define TEXT_AMOUNT_SIZE 32

/* Length of the valid UTF-8 sequence at bytes[0], 0 when there is none. */
size_t text_utf8_length(const uint8_t *bytes, size_t size);
bool text_is_utf8(const uint8_t *bytes, size_t size);
/* Replaces control bytes (also those of U+0080 to U+009F) and broken UTF-8 by \xNN; cut at the
 * buffer's end. */
void text_escape(const void *bytes, size_t length, char *text, size_t size);
/* Columns that UTF-8 text takes on a terminal, one per character. */
size_t text_width(const char *text);

/* Two lower-case digits a byte, NUL-terminated; `text` holds 2 * size + 1. */
void text_hex(const uint8_t *bytes, size_t size, char *text);
/* Exactly `size` bytes, either case. */
bool text_parse_hex(const char *text, uint8_t *ret_bytes, size_t size);

/* RFC 4648 with padding. */
#define TEXT_BASE64_SIZE(size) (((size) + 2) / 3 * 4 + 1)
void text_base64(const uint8_t *bytes, size_t size, char *text);

/* Local time: "2026-11-24 08:02:37" or with ".123"; "-" for 0. */
void text_time(int64_t real_us, bool with_ms, char text[static TEXT_TIME_SIZE]);
/* "1h" (that long before now_us), "now", "2026-11-24", "2026-11-24 08:02[:37[.123456]]" with T or
 * space, with Z or +HH:MM for a zone other than the local one, or "08:02[:37]" today. */
enum status text_parse_time(
	const char *text, int64_t now_us, int64_t *ret_real_us, struct error *err);

/* "980 B", "1.2 kB", "3.4 MB" (powers of 1000). */
void text_bytes(uint64_t bytes, char text[static TEXT_AMOUNT_SIZE]);
/* "0", "85 µs", "2.1 ms", "1.9 s", then as format_duration. */
void text_span(int64_t us, char text[static TEXT_AMOUNT_SIZE]);

#endif
