/* Cuts a server's stream into replies and finds the passive ones (227, 229) in it. Pure.
 *
 * The bytes stay in the caller's buffer and are not copied: each step speaks of its first bytes.
 * Whatever pieces the stream arrives in, the same replies come out. */
#ifndef POSTERN_FTP_REPLY_H
#define POSTERN_FTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_CAP 2048 /* longest passive reply that is looked at */

enum reply_action {
	REPLY_MORE, /* nothing yet: bring these bytes again with more behind them */
	REPLY_PASS, /* the first `size` bytes may go on */
	REPLY_PASSIVE, /* the first `size` bytes are one whole reply with code 227 or 229 */
	REPLY_OVERLONG, /* they begin a 227 or 229 longer than REPLY_CAP; its rest comes as
			   REPLY_PASS */
};

struct reply_step {
	enum reply_action action;
	size_t size;
	/* PASS, PASSIVE: code of the reply that ends with these bytes, 0 = none does. OVERLONG: its
	 * code. */
	unsigned code;
};

struct reply_parser {
	size_t looked; /* bytes at the front of the caller's buffer that were looked at before */
	bool candidate; /* nothing of this reply was handed out: it may still be passive */
	unsigned open_code; /* of the multi-line reply that we are in, 0 = none */
	/* the current line */
	unsigned column; /* 0 to 4 */
	unsigned digits; /* value of its first three bytes */
	bool numbered; /* they are a code so far */
	uint8_t separator; /* the fourth byte */
};

void reply_init(struct reply_parser *parser);
struct reply_step reply_next(struct reply_parser *parser, const uint8_t *data, size_t size);
/* Something of our own may be put into the stream here. */
bool reply_is_between(const struct reply_parser *parser);

#endif
