/* Documents in pieces: what is bounded, and what a lost answer does. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "server/document/document.h"
#include "server/service/uploads.h"

static const char one[] = "01890000-0000-7000-8000-000000000001";
static const char two[] = "01890000-0000-7000-8000-000000000002";

struct fixture {
	struct loop *loop;
	struct uploads *uploads;
	struct error err;
	uint64_t size;
};

static struct fixture begin(void)
{
	struct fixture f = {0};
	cr_assert_eq(loop_new(&f.loop, &f.err), STATUS_OK);
	f.uploads = uploads_new(f.loop);
	cr_assert(f.uploads);
	return f;
}

static void end(struct fixture *f)
{
	uploads_free(f->uploads);
	loop_free(f->loop);
}

static enum status add(struct fixture *f, const char *principal, const char *id, uint64_t offset,
	const void *data, size_t size)
{
	Postern__V1__UploadRequest piece = POSTERN__V1__UPLOAD_REQUEST__INIT;
	piece.upload = (char *)(uintptr_t)id;
	piece.offset = offset;
	piece.data.data = (uint8_t *)(uintptr_t)data;
	piece.data.len = size;
	return uploads_add(f->uploads, principal, &piece, &f->size, &f->err);
}

static enum status take(struct fixture *f, const char *principal, const char *id,
	const char *document, char **ret_bytes, size_t *ret_size)
{
	Postern__V1__DocumentSource source = POSTERN__V1__DOCUMENT_SOURCE__INIT;
	uint8_t *bytes = NULL;
	source.upload = (char *)(uintptr_t)id;
	source.document.data = (uint8_t *)(uintptr_t)document;
	source.document.len = strlen(document);
	enum status status =
		uploads_take(f->uploads, principal, &source, &bytes, ret_size, &f->err);
	*ret_bytes = (char *)bytes;
	return status;
}

Test(uploads, pieces_become_one_document_and_are_gone_then)
{
	struct fixture f = begin();
	char *bytes;
	size_t size;
	cr_expect_eq(add(&f, "admin", one, 0, "abc", 3), STATUS_OK);
	cr_expect_eq(add(&f, "admin", one, 3, "defg", 4), STATUS_OK);
	cr_expect_eq(f.size, 7);
	cr_assert_eq(take(&f, "admin", one, "", &bytes, &size), STATUS_OK);
	cr_expect_eq(size, 7);
	cr_expect_arr_eq(bytes, "abcdefg", 7);
	free(bytes);
	cr_expect_eq(take(&f, "admin", one, "", &bytes, &size), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(f.err.field, "source.upload");
	end(&f);
}

Test(uploads, another_principal_has_no_part_in_it)
{
	struct fixture f = begin();
	char *bytes;
	size_t size;
	cr_expect_eq(add(&f, "admin", one, 0, "abc", 3), STATUS_OK);
	cr_expect_eq(add(&f, "auditor", one, 3, "def", 3), STATUS_INVALID_ARGUMENT);
	cr_expect_eq(take(&f, "auditor", one, "", &bytes, &size), STATUS_INVALID_ARGUMENT);
	cr_expect_eq(add(&f, "auditor", two, 0, "xyz", 3), STATUS_OK);
	cr_assert_eq(take(&f, "admin", one, "", &bytes, &size), STATUS_OK);
	cr_expect_arr_eq(bytes, "abc", 3);
	free(bytes);
	end(&f);
}

Test(uploads, a_new_id_discards_the_old_one)
{
	struct fixture f = begin();
	char *bytes;
	size_t size;
	cr_expect_eq(add(&f, "admin", one, 0, "abc", 3), STATUS_OK);
	cr_expect_eq(add(&f, "admin", two, 0, "de", 2), STATUS_OK);
	cr_expect_eq(take(&f, "admin", one, "", &bytes, &size), STATUS_INVALID_ARGUMENT);
	cr_assert_eq(take(&f, "admin", two, "", &bytes, &size), STATUS_OK);
	cr_expect_eq(size, 2);
	free(bytes);
	end(&f);
}

Test(uploads, a_piece_whose_answer_was_lost_may_come_again)
{
	struct fixture f = begin();
	cr_expect_eq(add(&f, "admin", one, 0, "abc", 3), STATUS_OK);
	cr_expect_eq(add(&f, "admin", one, 3, "de", 2), STATUS_OK);
	cr_expect_eq(add(&f, "admin", one, 3, "de", 2), STATUS_OK);
	cr_expect_eq(f.size, 5);
	cr_expect_eq(add(&f, "admin", one, 3, "dx", 2), STATUS_INVALID_ARGUMENT);
	cr_expect_eq(add(&f, "admin", one, 9, "f", 1), STATUS_INVALID_ARGUMENT);
	cr_expect_str_eq(f.err.field, "offset");
	end(&f);
}

Test(uploads, sizes_are_bounded)
{
	enum { PIECE = 512 * 1024 };
	struct fixture f = begin();
	char *piece = calloc(1, PIECE + 1);
	uint64_t offset = 0;
	cr_expect_eq(add(&f, "admin", "not an id", 0, "a", 1), STATUS_INVALID_ARGUMENT);
	cr_expect_eq(add(&f, "admin", one, 0, piece, PIECE + 1), STATUS_INVALID_ARGUMENT);
	for (; offset < DOCUMENT_SIZE_MAX; offset += PIECE)
		cr_assert_eq(
			add(&f, "admin", one, offset, piece, PIECE), STATUS_OK, "%s", f.err.text);
	cr_expect_eq(add(&f, "admin", one, offset, "a", 1), STATUS_INVALID_ARGUMENT);
	cr_expect(strstr(f.err.text, "larger than"), "%s", f.err.text);
	for (int i = 0; i < 7; i++) {
		char name[16];
		snprintf(name, sizeof name, "auditor%d", i);
		cr_expect_eq(add(&f, name, two, 0, "a", 1), STATUS_OK, "%s", f.err.text);
	}
	cr_expect_eq(add(&f, "ninth", two, 0, "a", 1), STATUS_RESOURCE_EXHAUSTED);
	free(piece);
	end(&f);
}

Test(uploads, a_source_is_one_of_two_or_none)
{
	struct fixture f = begin();
	char *bytes;
	size_t size;
	cr_assert_eq(take(&f, "admin", "", "abc", &bytes, &size), STATUS_OK);
	cr_expect_eq(size, 3);
	free(bytes);
	cr_assert_eq(take(&f, "admin", "", "", &bytes, &size), STATUS_OK);
	cr_expect_null(bytes);
	cr_expect_eq(take(&f, "admin", one, "abc", &bytes, &size), STATUS_INVALID_ARGUMENT);
	end(&f);
}
