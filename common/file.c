#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_CAP 4096
#define PATH_CAP 4096

static enum status status_of(int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ENOTDIR:
		return STATUS_NOT_FOUND;
	case EEXIST:
		return STATUS_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return STATUS_PERMISSION_DENIED;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return STATUS_RESOURCE_EXHAUSTED;
	default:
		return STATUS_UNAVAILABLE;
	}
}

static enum status fail(struct error *err, const char *what, const char *path)
{
	int errnum = errno;

	return error_errno(err, status_of(errnum), errnum, "%s: cannot %s", path, what);
}

/* ---- reading ---- */

/* The size is not believed from fstat: the file may grow, or be a pipe. */
static enum status read_all(
	int fd, const char *path, size_t cap, char **ret_text, size_t *ret_size, struct error *err)
{
	size_t size = 0, room = cap < 4096 ? cap : 4096;
	char *text = malloc(room + 1), *more;
	enum status status;
	ssize_t got;

	if (!text)
		return error_set(err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", path);
	for (;;) {
		got = read(fd, text + size, room + 1 - size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			status = fail(err, "read", path);
			goto out;
		}
		size += (size_t)got;
		if (got == 0)
			break;
		if (size <= room)
			continue;
		if (room == cap) {
			status = error_set(err, STATUS_RESOURCE_EXHAUSTED,
				"%s: larger than the %zu bytes allowed here", path, cap);
			goto out;
		}
		room = room > cap / 2 ? cap : room * 2;
		more = malloc(room + 1);
		if (!more) {
			status = error_set(
				err, STATUS_RESOURCE_EXHAUSTED, "%s: out of memory", path);
			goto out;
		}
		memcpy(more, text, size);
		explicit_bzero(text, size);
		free(text);
		text = more;
	}
	text[size] = '\0';
	*ret_text = text;
	if (ret_size)
		*ret_size = size;
	return STATUS_OK;
out:
	explicit_bzero(text, size);
	free(text);
	return status;
}

static int open_to_read(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
}

enum status file_read(
	const char *path, size_t cap, char **ret_text, size_t *ret_size, struct error *err)
{
	enum status status;
	int fd = open_to_read(path);

	if (fd < 0)
		return fail(err, "open", path);
	status = read_all(fd, path, cap, ret_text, ret_size, err);
	close(fd);
	return status;
}

static enum status check_secret_mode(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return fail(err, "examine", path);
	if (S_ISREG(st.st_mode) && (st.st_mode & 077))
		return error_set(err, STATUS_PERMISSION_DENIED,
			"%s: mode %04o lets others read a secret; run: chmod 600 %s", path,
			(unsigned)(st.st_mode & 07777), path);
	return STATUS_OK;
}

static enum status trim_secret(char *secret, size_t size, const char *path, struct error *err)
{
	while (size > 0 && strchr(" \t\r\n", secret[size - 1]))
		secret[--size] = '\0';
	if (size == 0)
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: empty; it should hold one line, the secret", path);
	if (strlen(secret) != size || strpbrk(secret, "\r\n"))
		return error_set(err, STATUS_INVALID_ARGUMENT,
			"%s: more than one line; it should hold one line, the secret", path);
	return STATUS_OK;
}

enum status file_read_secret(const char *path, char **ret_secret, struct error *err)
{
	char *secret = NULL;
	enum status status;
	size_t size = 0;
	int fd = open_to_read(path);

	if (fd < 0)
		return fail(err, "open", path);
	status = check_secret_mode(fd, path, err);
	if (status == STATUS_OK)
		status = read_all(fd, path, SECRET_CAP, &secret, &size, err);
	close(fd);
	if (status != STATUS_OK)
		return status;
	status = trim_secret(secret, size, path, err);
	if (status != STATUS_OK) {
		explicit_bzero(secret, size);
		free(secret);
		return status;
	}
	*ret_secret = secret;
	return STATUS_OK;
}

void file_free_secret(char *secret)
{
	if (!secret)
		return;
	explicit_bzero(secret, strlen(secret));
	free(secret);
}

/* ---- writing ---- */

static enum status write_all(
	int fd, const char *path, const void *bytes, size_t size, mode_t mode, struct error *err)
{
	const char *at = bytes;
	ssize_t put;

	while (size > 0) {
		put = write(fd, at, size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return fail(err, "write", path);
		at += put;
		size -= (size_t)put;
	}
	if (fchmod(fd, mode) < 0)
		return fail(err, "set the mode of", path);
	if (fsync(fd) < 0)
		return fail(err, "flush to disk", path);
	return STATUS_OK;
}

static enum status flush_folder(const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_CAP];
	enum status status = STATUS_OK;
	int fd;

	if (!slash)
		snprintf(folder, sizeof(folder), ".");
	else
		snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path),
			path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, "open", folder);
	if (fsync(fd) < 0)
		status = fail(err, "flush to disk", folder);
	close(fd);
	return status;
}

static enum status move_into_place(
	const char *temporary, const char *path, int replace, struct error *err)
{
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE) == 0)
		return STATUS_OK;
	if (!replace && errno == EINVAL) { /* a file system without RENAME_NOREPLACE */
		if (link(temporary, path) == 0) {
			unlink(temporary);
			return STATUS_OK;
		}
	}
	if (errno == EEXIST)
		return error_set(err, STATUS_ALREADY_EXISTS,
			"%s: exists already and is not replaced; move it away first", path);
	return fail(err, "rename the new file to", path);
}

enum status file_write(const char *path, const void *bytes, size_t size, mode_t mode, int replace,
	struct error *err)
{
	char temporary[PATH_CAP];
	enum status status;
	int fd, length;

	length = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	if (length < 0 || (size_t)length >= sizeof(temporary))
		return error_set(err, STATUS_INVALID_ARGUMENT, "%.100s...: path is too long", path);
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 until write_all is done */
	if (fd < 0)
		return fail(err, "create a file beside", path);
	status = write_all(fd, path, bytes, size, mode, err);
	close(fd);
	if (status == STATUS_OK)
		status = move_into_place(temporary, path, replace, err);
	if (status != STATUS_OK) {
		unlink(temporary);
		return status;
	}
	return flush_folder(path, err);
}
