/* Documents written as messages, for tests of the policy. */
#ifndef POSTERN_TESTS_POLICY_FIXTURE_H
#define POSTERN_TESTS_POLICY_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "postern/v1/document.pb-c.h"
#include "server/policy/policy.h"

#define LIST(...) ((char *[]){__VA_ARGS__})
#define TEXTS(field, ...)                                                                          \
	.n_##field = sizeof(LIST(__VA_ARGS__)) / sizeof(char *), .field = LIST(__VA_ARGS__)
#define ITEMS(field, ...)                                                                          \
	.n_##field = sizeof((void *[]){__VA_ARGS__}) / sizeof(void *), .field = (void *)(void *[]) \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

/* Compound literals of the generated messages, which need their descriptor. */
#define MESSAGE(type, lower, ...)                                                                  \
	(&(Postern__V1__##type){                                                                   \
		.base = PROTOBUF_C_MESSAGE_INIT(&postern__v1__##lower##__descriptor),              \
		__VA_ARGS__})

static inline void fill_text(char **text)
{
	if (!*text)
		*text = (char *)protobuf_c_empty_string;
}

/* What the literal left out is "", as after unpacking. */
static inline void fill_texts(ProtobufCMessage *message)
{
	const ProtobufCMessageDescriptor *type = message->descriptor;
	for (unsigned i = 0; i < type->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &type->fields[i];
		void *at = (char *)message + field->offset;
		if (field->type == PROTOBUF_C_TYPE_STRING &&
			field->label != PROTOBUF_C_LABEL_REPEATED)
			fill_text(at);
		if (field->type != PROTOBUF_C_TYPE_MESSAGE ||
			field->label != PROTOBUF_C_LABEL_REPEATED)
			continue;
		size_t count = *(size_t *)(void *)((char *)message + field->quantifier_offset);
		for (size_t j = 0; j < count; j++)
			fill_texts((*(ProtobufCMessage ***)at)[j]);
	}
}

static inline enum status unpack_message(
	Postern__V1__PolicyDocument *message, struct document **ret_document, struct error *err)
{
	fill_texts(&message->base);
	size_t size = protobuf_c_message_get_packed_size(&message->base);
	uint8_t *packed = malloc(size + 1);
	protobuf_c_message_pack(&message->base, packed);
	enum status status = document_unpack(packed, size, ret_document, err);
	free(packed);
	return status;
}

static inline struct policy *compile_with(
	Postern__V1__PolicyDocument *message, struct policy_input input)
{
	struct policy *policy = NULL;
	struct error err = {0};
	cr_assert_eq(unpack_message(message, &input.document, &err), STATUS_OK, "%s", err.text);
	cr_assert_eq(policy_compile(&input, &policy, &err), STATUS_OK, "%s", err.text);
	return policy;
}

static inline struct policy *compile(Postern__V1__PolicyDocument *message)
{
	return compile_with(message, (struct policy_input){0});
}

static inline struct addr address(const char *text)
{
	struct addr addr = {0};
	cr_assert(addr_parse(text, &addr), "%s", text);
	return addr;
}

#endif
