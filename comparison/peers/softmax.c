/* The same step in plain C, as a program that compare.py runs: see docs/comparison.md.
   softmax FOLDER reads job.json and the arrays there; it leaves W.npy, b.npy and result.json. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void fail(const char *what) {
  fprintf(stderr, "softmax: %s\n", what);
  exit(1);
}

static FILE *file(const char *folder, const char *name, const char *mode) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *found = fopen(path, mode);
  if (!found) fail(path);
  return found;
}

/* Returns the content of a .npy file behind its header, and the bytes of it in *size. */
static void *array(const char *folder, const char *name, size_t *size) {
  FILE *from = file(folder, name, "rb");
  unsigned char head[10];
  if (fread(head, 1, 10, from) != 10 || memcmp(head, "\x93NUMPY\x01", 7)) fail(name);
  fseek(from, 0, SEEK_END);
  long start = 10 + head[8] + 256 * head[9], end = ftell(from);
  fseek(from, start, SEEK_SET);
  void *content = malloc(*size = end - start);
  if (!content || fread(content, 1, *size, from) != *size) fail(name);
  fclose(from);
  return content;
}

static void leave(const char *folder, const char *name, const char *shape, const float *values, size_t count) {
  FILE *to = file(folder, name, "wb");
  char head[128];
  memset(head, ' ', sizeof head);
  memcpy(head, "\x93NUMPY\x01\0\x76\0", 10); /* 118 bytes follow: 128 with these ten */
  int used = sprintf(head + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
  head[10 + used] = ' ';
  head[127] = '\n';
  if (fwrite(head, 1, 128, to) != 128 || fwrite(values, sizeof(float), count, to) != count || fclose(to)) fail(name);
}

static double number(const char *json, const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *at = strstr(json, quoted);
  if (!at) fail(key);
  return atof(at + strlen(quoted));
}

enum { TILE = 5 }; /* images whose sums run side by side: one sum alone waits for each of its own additions */

/* Takes a step on the images of `rows`; W is [classes, n features]; x and delta, of whole tiles, and sums are scratch. */
static void step(float *restrict W, float *restrict b, const uint8_t *images, const int32_t *labels,
                 const int32_t *rows, int batch, int n, int classes, float lr, float *restrict x,
                 float *restrict delta, float *restrict sums) {
  int padded = (batch + TILE - 1) / TILE * TILE;
  memset(x + (size_t)batch * n, 0, sizeof(float) * (padded - batch) * n);
  for (int i = 0; i < batch; i++)
    for (int f = 0; f < n; f++) x[(size_t)i * n + f] = images[(size_t)rows[i] * n + f] * (1 / 255.0f);
  for (int i = 0; i < padded; i += TILE)
    for (int k = 0; k < classes; k++) {
      const float *w = W + (size_t)k * n, *xi = x + (size_t)i * n;
      float z[TILE] = {0};
      for (int f = 0; f < n; f++)
        for (int j = 0; j < TILE; j++) z[j] += w[f] * xi[f + j * n];
      for (int j = 0; j < TILE; j++) delta[(i + j) * classes + k] = z[j] + b[k];
    }
  for (int i = 0; i < padded; i++) {
    float *d = delta + i * classes, most = d[0], sum = 0;
    for (int k = 1; k < classes; k++) most = d[k] > most ? d[k] : most;
    for (int k = 0; k < classes; k++) sum += d[k] = expf(d[k] - most);
    for (int k = 0; k < classes; k++) d[k] = i < batch ? lr * (d[k] / sum - (k == labels[rows[i]])) : 0;
  }
  for (int k = 0; k < classes; k++) { /* the batch is summed first: W would round off what each tile adds to it */
    memset(sums, 0, sizeof(float) * n);
    float bias = 0;
    for (int i = 0; i < padded; i += TILE) {
      const float *xi = x + (size_t)i * n;
      float d[TILE];
      for (int j = 0; j < TILE; j++) bias += d[j] = delta[(i + j) * classes + k];
      for (int f = 0; f < n; f++)
        for (int j = 0; j < TILE; j++) sums[f] += d[j] * xi[f + j * n];
    }
    for (int f = 0; f < n; f++) W[(size_t)k * n + f] -= sums[f];
    b[k] -= bias;
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* Returns the peak of this process's memory in MiB, 0 where the system does not tell. */
static double peak_mib(void) {
  char line[256];
  double kib = 0;
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %lf", &kib);
  if (status) fclose(status);
  return kib / 1024;
}

int main(int argc, char **argv) {
  if (argc != 2) fail("must be given a folder");
  const char *folder = argv[1];
  char json[4096] = "", shape[64];
  FILE *job = file(folder, "job.json", "r");
  if (!fread(json, 1, sizeof json - 1, job)) fail("job.json");
  fclose(job);
  int batch = number(json, "batch_size"), classes = number(json, "num_classes");
  int features = number(json, "num_features");
  long steps = number(json, "steps");
  float lr = number(json, "lr");
  double min_seconds = number(json, "min_seconds"), timed = 0;

  size_t size, labels_size;
  uint8_t *images = array(folder, "images.npy", &size);
  int32_t *labels = array(folder, "labels.npy", &labels_size), *order = array(folder, "order.npy", &size);
  size_t examples = labels_size / sizeof *labels;
  float *W = malloc(sizeof(float) * features * classes), *b = malloc(sizeof(float) * classes);
  float *x = malloc(sizeof(float) * (batch + TILE) * features);
  float *delta = malloc(sizeof(float) * (batch + TILE) * classes);
  float *sums = malloc(sizeof(float) * features);
  FILE *result = file(folder, "result.json", "w");
  fprintf(result, "{\"train\": [");
  for (int turn = 0; timed < min_seconds || !turn; turn++) {
    memset(W, 0, sizeof(float) * features * classes);
    memset(b, 0, sizeof(float) * classes);
    double began = now();
    size_t at = 0; /* in the epochs, which stand one behind the other; the last batch of each may be smaller */
    for (long taken = 0; taken < steps; taken++) {
      size_t left = examples - at % examples;
      int rows = left < (size_t)batch ? (int)left : batch;
      step(W, b, images, labels, order + at, rows, features, classes, lr, x, delta, sums);
      at += rows;
    }
    double took = now() - began;
    timed += took;
    fprintf(result, "%s%.9f", turn ? ", " : "", took);
  }
  fprintf(result, "], \"peak_mib\": %.1f}\n", peak_mib());
  if (fclose(result)) fail("result.json");

  float *transposed = malloc(sizeof(float) * features * classes);
  for (int f = 0; f < features; f++)
    for (int k = 0; k < classes; k++) transposed[f * classes + k] = W[k * features + f];
  snprintf(shape, sizeof shape, "(%d, %d)", features, classes);
  leave(folder, "W.npy", shape, transposed, (size_t)features * classes);
  snprintf(shape, sizeof shape, "(%d,)", classes);
  leave(folder, "b.npy", shape, b, classes);
  return 0;
}
