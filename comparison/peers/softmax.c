/* The same steps in plain C, as a contender of compare.py; docs/comparison.md has the protocol.
   softmax FOLDER reads job.json and the arrays there, and does the job at each line on stdin. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TILE = 5 };          /* images, and classes, whose sums are computed side by side */
enum { CHUNK = 32 };        /* features whose gradients, for a tile of classes, fit AVX-512's registers */
enum { BLOCK = 100 };       /* images whose floats stay in a core's cache */
enum { LINE = 64 };         /* bytes that a CPU fetches from memory at once */
enum { ROWS_OF_CORE = 50 }; /* images for each core that is used */

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

/* Returns the content of a .npy file after its header, and its bytes in *size. Zeros follow as the
   rows of a batch after the last one, which are fetched but not used. */
static void *array(const char *folder, const char *name, size_t *size) {
  FILE *from = file(folder, name, "rb");
  unsigned char head[10];
  if (fread(head, 1, 10, from) != 10 || memcmp(head, "\x93NUMPY\x01", 7)) fail(name);
  fseek(from, 0, SEEK_END);
  long start = 10 + head[8] + 256 * head[9], end = ftell(from);
  fseek(from, start, SEEK_SET);
  *size = end - start;
  void *content = calloc(1, *size + BLOCK * sizeof(int32_t));
  if (!content || fread(content, 1, *size, from) != *size) fail(name);
  fclose(from);
  return content;
}

/* Writes a .npy file of float32. */
static void leave(const char *folder, const char *name, const char *shape, const float *values,
                  size_t count) {
  FILE *to = file(folder, name, "wb");
  char head[128];
  memset(head, ' ', sizeof head);
  memcpy(head, "\x93NUMPY\x01\0\x76\0", 10); /* 118 bytes follow: 128 with these ten */
  int used = sprintf(head + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", shape);
  head[10 + used] = ' ';
  head[127] = '\n';
  if (fwrite(head, 1, 128, to) != 128) fail(name);
  if (fwrite(values, sizeof(float), count, to) != count || fclose(to)) fail(name);
}

static double number(const char *json, const char *key) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\":", key);
  const char *at = strstr(json, quoted);
  if (!at) fail(key);
  return atof(at + strlen(quoted));
}

/* What a core needs for its share of a batch: images as floats, logits, gradients. */
struct scratch {
  float *x, *delta, *W, *b;
};

/* W [rows, width], b [rows] and each image as floats [width] are padded with zeros to whole tiles
   of classes and chunks of features. */
struct net {
  int features, classes, width, rows;
  float *W, *b;
};

/* Writes the logits of `images` images x [images, width] to z [images, rows]. A compiler knows
   their number, and keeps all sums in registers. */
static inline void logits(const struct net *net, const float *restrict x, float *restrict z,
                          const int images) {
  int n = net->width, rows = net->rows;
  const float *restrict b = net->b;
  for (int k = 0; k < rows; k += TILE) {
    const float *restrict w = net->W + (size_t)k * n;
    float sum[TILE][TILE] = {0};
    for (int f = 0; f < n; f++)
      for (int c = 0; c < TILE; c++)
        for (int j = 0; j < images; j++) sum[c][j] += w[f + c * n] * x[f + j * n];
    for (int c = 0; c < TILE; c++)
      for (int j = 0; j < images; j++) z[j * rows + k + c] = sum[c][j] + b[k + c];
  }
}

/* Writes the logits of the images x [count, width] to z [count, rows]; the last tile is whole,
   unless it has one image. */
static void forward(const struct net *net, const float *x, float *z, int count) {
  int n = net->width, rows = net->rows;
  for (int i = 0; i < count; i += TILE)
    if (count - i == 1)
      logits(net, x + (size_t)i * n, z + i * rows, 1);
    else
      logits(net, x + (size_t)i * n, z + i * rows, TILE);
}

/* Adds `factor` times the gradients of these images to W and b; delta is [n, rows]. They are
   summed first, because adding each image to W has a larger rounding error. */
static void backward(const struct net *net, float *restrict W, float *restrict b,
                     const float *restrict x, const float *restrict delta, int count,
                     float factor) {
  int n = net->width, rows = net->rows;
  for (int f = 0; f < n; f += CHUNK)
    for (int k = 0; k < rows; k += TILE) {
      float sum[TILE][CHUNK] = {0};
      for (int i = 0; i < count; i++)
        for (int c = 0; c < TILE; c++)
          for (int j = 0; j < CHUNK; j++)
            sum[c][j] += delta[i * rows + k + c] * x[(size_t)i * n + f + j];
      for (int c = 0; c < TILE; c++)
        for (int j = 0; j < CHUNK; j++) W[(size_t)(k + c) * n + f + j] += factor * sum[c][j];
    }
  for (int k = 0; k < rows; k++) {
    float bias = 0;
    for (int i = 0; i < count; i++) bias += delta[i * rows + k];
    b[k] += factor * bias;
  }
}

static void convert(const uint8_t *restrict image, float *restrict x, int n) {
  for (int f = 0; f < n; f++) x[f] = image[f] * (1 / 255.0f);
}

static int whole(int count, int size) { return (count + size - 1) / size * size; }

/* Adds `factor` times the gradients of at most BLOCK images, those of `rows`, to W and b. */
static void add_gradients(const struct net *net, const struct scratch *own, const uint8_t *images,
                          const int32_t *labels, const int32_t *rows, int count, float factor,
                          float *W, float *b) {
  int n = net->features, classes = net->classes, width = net->width;
  for (int i = 0; i < count; i++) {
    const uint8_t *later = images + (size_t)rows[i + count] * n; /* an image of the next block */
    for (int f = 0; f < n; f += LINE) __builtin_prefetch(later + f, 0, 2);
    convert(images + (size_t)rows[i] * n, own->x + (size_t)i * width, n);
  }
  forward(net, own->x, own->delta, count);
  for (int i = 0; i < count; i++) {
    float *d = own->delta + i * net->rows, max = d[0], sum = 0;
    for (int k = 1; k < classes; k++) max = d[k] > max ? d[k] : max;
    for (int k = 0; k < classes; k++) sum += d[k] = expf(d[k] - max);
    for (int k = 0; k < classes; k++) d[k] = d[k] / sum - (k == labels[rows[i]]);
  }
  backward(net, W, b, own->x, own->delta, count, factor);
}

/* Takes a step. Each core sums the gradients of its share; a small batch needs no such sums. */
static void step(struct net *net, const struct scratch *scratch, int cores, const uint8_t *images,
                 const int32_t *labels, const int32_t *rows, int batch, float lr) {
  if (batch <= BLOCK && (cores == 1 || batch < 2 * ROWS_OF_CORE)) {
    add_gradients(net, scratch, images, labels, rows, batch, -lr, net->W, net->b);
    return;
  }
  int weights = net->width * net->rows, most = (batch + ROWS_OF_CORE - 1) / ROWS_OF_CORE;
  int used = cores < most ? cores : most;
#pragma omp parallel for num_threads(used) schedule(static, 1)
  for (int core = 0; core < used; core++) {
    const struct scratch *own = scratch + core;
    memset(own->W, 0, sizeof(float) * weights);
    memset(own->b, 0, sizeof(float) * net->rows);
    int end = (long)batch * (core + 1) / used;
    for (int first = (long)batch * core / used; first < end; first += BLOCK) {
      int count = end - first < BLOCK ? end - first : BLOCK;
      add_gradients(net, own, images, labels, rows + first, count, 1, own->W, own->b);
    }
  }
  for (int core = 0; core < used; core++) {
    for (int at = 0; at < weights; at++) net->W[at] -= lr * scratch[core].W[at];
    for (int k = 0; k < net->classes; k++) net->b[k] -= lr * scratch[core].b[k];
  }
}

static float *floats(size_t count) {
  float *found = calloc(count, sizeof(float));
  if (!found) fail("no memory");
  return found;
}

static void say(const char *word) {
  puts(word);
  fflush(stdout);
}

static void leave_weights(const char *folder, const struct net *net) {
  int n = net->features, classes = net->classes;
  float *transposed = floats((size_t)n * classes);
  char shape[64];
  for (int f = 0; f < n; f++)
    for (int k = 0; k < classes; k++) transposed[f * classes + k] = net->W[k * net->width + f];
  snprintf(shape, sizeof shape, "(%d, %d)", n, classes);
  leave(folder, "W.npy", shape, transposed, (size_t)n * classes);
  snprintf(shape, sizeof shape, "(%d,)", classes);
  leave(folder, "b.npy", shape, net->b, classes);
  free(transposed);
}

int main(int argc, char **argv) {
  if (argc != 2) fail("must be given a folder");
  const char *folder = argv[1];
  char json[4096] = "", line[64];
  FILE *job = file(folder, "job.json", "r");
  if (!fread(json, 1, sizeof json - 1, job)) fail("job.json");
  fclose(job);
  int batch = number(json, "batch_size"), cores = number(json, "cores");
  long steps = number(json, "steps");
  float lr = number(json, "lr");

  size_t size, labels_size;
  uint8_t *images = array(folder, "images.npy", &size);
  int32_t *labels = array(folder, "labels.npy", &labels_size);
  int32_t *order = array(folder, "order.npy", &size);
  size_t examples = labels_size / sizeof *labels;

  struct net net = {.features = number(json, "num_features"),
                    .classes = number(json, "num_classes")};
  net.width = whole(net.features, CHUNK);
  net.rows = whole(net.classes, TILE);
  size_t weights = (size_t)net.width * net.rows;
  net.W = floats(weights);
  net.b = floats(net.rows);
  struct scratch *scratch = calloc(cores, sizeof *scratch);
  for (int core = 0; core < cores; core++)
    scratch[core] = (struct scratch){
        floats((size_t)BLOCK * net.width), floats((size_t)BLOCK * net.rows), floats(weights),
        floats(net.rows)};
  say("ready");
  while (fgets(line, sizeof line, stdin)) {
    memset(net.W, 0, sizeof(float) * weights);
    memset(net.b, 0, sizeof(float) * net.rows);
    size_t at = 0; /* in the epochs, one after the other; the last batch of each may be smaller */
    for (long taken = 0; taken < steps; taken++) {
      size_t left = examples - at % examples;
      int rows = left < (size_t)batch ? (int)left : batch;
      step(&net, scratch, cores, images, labels, order + at, rows, lr);
      at += rows;
    }
    say("done");
    leave_weights(folder, &net);
    say("ready");
  }
  return 0;
}
