#include "client/cli/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_ROOM 256

enum status token_reserve(const char *path, struct token_file *ret_file, struct error *err)
{
	struct token_file file;

	if ((size_t)snprintf(file.path, sizeof(file.path), "%s", path) >= sizeof(file.path))
		return error_field(err, "out", "--out: the path is too long");
	file.fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file.fd < 0 && errno == EEXIST)
		return error_set(err, STATUS_ALREADY_EXISTS,
			"%.200s exists and is not overwritten: choose another name with --out "
			"FILE, or move it away",
			path);
	if (file.fd < 0)
		return error_errno(err, STATUS_FAILED_PRECONDITION, errno,
			"the token's file %.150s cannot be made (nothing was asked of the server)",
			path);
	/* A full disk shows now, before the server is asked. */
	int errnum = posix_fallocate(file.fd, 0, TOKEN_ROOM);
	if (errnum == 0 && fchmod(file.fd, 0600) != 0)
		errnum = errno;
	if (errnum != 0) {
		token_fini(&file);
		return error_errno(err, STATUS_FAILED_PRECONDITION, errnum,
			"the token's file %.150s cannot be written (nothing was asked of the "
			"server)",
			path);
	}
	*ret_file = file;
	return STATUS_OK;
}

static int write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, text, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

enum status token_keep(struct token_file *file, const char *token, struct error *err)
{
	size_t length = strlen(token);
	int errnum = write_all(file->fd, token, length);

	if (errnum == 0)
		errnum = write_all(file->fd, "\n", 1);
	if (errnum == 0 && (ftruncate(file->fd, (off_t)length + 1) != 0 || fsync(file->fd) != 0))
		errnum = errno;
	if (errnum != 0)
		return error_errno(err, STATUS_DATA_LOSS, errnum,
			"the server issued a token, but %.120s could not be written and the token "
			"is lost: add another name",
			file->path);
	close(file->fd);
	file->fd = -1;
	return STATUS_OK;
}

void token_fini(struct token_file *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	file->fd = -1;
	unlink(file->path);
}
