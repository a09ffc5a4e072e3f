/* Frames as tables: what is taken, refused, packed; UTF-8; memory in proportion. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/agents.pb-c.h"
#include "postern/v1/gateways.pb-c.h"
#include "proto/rpc/frame.h"

static enum frame_result take(const void *bytes, size_t size, size_t max)
{
	struct buffer in;
	Postern__V1__Frame *frame = NULL;
	buffer_init(&in, 1 << 20);
	cr_assert(buffer_append(&in, bytes, size));
	enum frame_result result = frame_take(&in, max, &frame);
	if (result == FRAME_OK)
		frame_free(frame);
	else
		cr_expect_eq(in.length, size, "nothing is consumed");
	buffer_fini(&in);
	return result;
}

Test(frame, take)
{
	static const struct {
		const char *what, *bytes;
		size_t size;
		enum frame_result result;
	} rows[] = {
		{"nothing", "", 0, FRAME_INCOMPLETE},
		{"half a length", "\0\0", 2, FRAME_INCOMPLETE},
		{"length only", "\0\0\0\2", 4, FRAME_INCOMPLETE},
		{"half a frame", "\0\0\0\2\x10", 5, FRAME_INCOMPLETE},
		{"a ping", "\0\0\0\2\x10\x08", 6, FRAME_OK},
		{"a ping and more", "\0\0\0\2\x10\x08\0\0", 8, FRAME_OK},
		{"no bytes", "\0\0\0\0", 4, FRAME_MALFORMED},
		{"not a frame", "\0\0\0\1\xff", 5, FRAME_MALFORMED},
		{"text in Latin 1", "\0\0\0\3\x3a\1\xe9", 7, FRAME_MALFORMED},
		{"text in UTF-8", "\0\0\0\4\x3a\2\xc3\xa9", 8, FRAME_OK},
		{"unknown field", "\0\0\0\3\xf8\x06\x01", 7, FRAME_OK},
		{"unknown kind", "\0\0\0\2\x10\x63", 6, FRAME_OK},
		{"at the limit", "\0\0\0\x10", 4, FRAME_INCOMPLETE},
		{"over the limit", "\0\0\0\x11", 4, FRAME_TOO_LARGE},
		{"four gigabytes", "\xff\xff\xff\xff", 4, FRAME_TOO_LARGE},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		cr_expect_eq(
			take(rows[i].bytes, rows[i].size, 16), rows[i].result, "%s", rows[i].what);
}

Test(frame, a_body_packed_into_it_is_the_body_set_in_it)
{
	Postern__V1__GatewayShowRequest body = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	char name[600];
	memset(name, 'n', sizeof name);
	for (size_t size = 0; size < sizeof name; size += 37) {
		Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
		struct buffer one, two;
		uint8_t packed[700];
		buffer_init(&one, 4096);
		buffer_init(&two, 4096);
		body.name = name + sizeof name - 1 - size;
		name[sizeof name - 1] = '\0';
		frame.call = 300;
		frame.method = (char *)(uintptr_t) "m";
		cr_assert_eq(frame_append(&one, &frame, &body.base, 4096), STATUS_OK);
		frame.body.data = packed;
		frame.body.len = postern__v1__gateway_show_request__pack(&body, packed);
		cr_assert_eq(frame_append(&two, &frame, NULL, 4096), STATUS_OK);
		cr_expect_eq(one.length, two.length);
		cr_expect_arr_eq(buffer_bytes(&one), buffer_bytes(&two), one.length);
		buffer_fini(&one);
		buffer_fini(&two);
	}
}

Test(frame, a_frame_over_the_limit_is_not_appended)
{
	Postern__V1__Frame frame = POSTERN__V1__FRAME__INIT;
	Postern__V1__GatewayShowRequest body = POSTERN__V1__GATEWAY_SHOW_REQUEST__INIT;
	struct buffer out;
	buffer_init(&out, 64);
	body.name = (char *)(uintptr_t) "0123456789";
	frame.call = 1;
	cr_expect_eq(frame_append(&out, &frame, &body.base, 15), STATUS_INVALID_ARGUMENT);
	cr_expect_eq(frame_append(&out, &frame, &body.base, 16), STATUS_OK);
	cr_expect_eq(out.length, 4 + 16);
	while (frame_append(&out, &frame, &body.base, 16) == STATUS_OK)
		;
	cr_expect_eq(out.length, 60, "a full buffer is left as it was");
	buffer_fini(&out);
}

Test(frame, text_is_cleaned)
{
	static const struct {
		const char *text, *clean;
	} rows[] = {
		{"plain", "plain"},
		{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xaa",
			"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x9a\xaa"},
		{"cut \xe2\x82", "cut ??"},
		{"cut \xf0\x9f\x9a", "cut ???"},
		{"lone \x80 tail", "lone ? tail"},
		{"long \xc0\x80", "long ??"},
		{"long \xe0\x80\x80", "long ???"},
		{"surrogate \xed\xa0\x80", "surrogate ???"},
		{"past \xf4\x90\x80\x80", "past ????"},
		{"latin \xe9t\xe9", "latin ?t?"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[64];
		snprintf(text, sizeof text, "%s", rows[i].text);
		frame_clean_text(text);
		cr_expect_str_eq(text, rows[i].clean);
	}
}

static ProtobufCMessage *sync_item(const void *bytes, size_t size)
{
	return message_unpack(&postern__v1__sync_item__descriptor, bytes, size);
}

Test(frame, memory_is_in_proportion_to_the_bytes)
{
	const size_t size = 1 << 20;
	uint8_t *bytes = malloc(size);
	for (size_t i = 0; i < size; i += 2) {
		bytes[i] = 0x22; /* doors: an empty Door */
		bytes[i + 1] = 0;
	}
	cr_expect_null(sync_item(bytes, size), "half a million structs out of one megabyte");
	ProtobufCMessage *few = sync_item(bytes, 512);
	cr_expect_not_null(few);
	message_free(few);
	free(bytes);
}

Test(frame, texts_deep_inside_are_looked_at)
{
	/* doors { grant: "\xff" }; removed: "ok", "\xff" */
	cr_expect_null(sync_item("\x22\x03\x0a\x01\xff", 5));
	cr_expect_null(sync_item("\x2a\x02ok\x2a\x01\xff", 7));
	ProtobufCMessage *good = sync_item("\x22\x03\x0a\x01g\x2a\x02ok", 9);
	cr_expect_not_null(good);
	message_free(good);
}
