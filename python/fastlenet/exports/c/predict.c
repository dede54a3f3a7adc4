/* The name of a class, in UTF-8. */
static inline const char *fastlenet_class_name(int index) { return fastlenet_class_names[index]; }

/*
 * Returns the class of an image, its index in 0..FASTLENET_CLASSES-1; of equal ones the first.
 * image: FASTLENET_PIXELS bytes of 0..255, image[(channel * FASTLENET_HEIGHT + row) *
 * FASTLENET_WIDTH + column]. probabilities: room for FASTLENET_CLASSES numbers, or a null pointer.
 */
static inline int fastlenet_predict(const uint8_t *image, float *probabilities) {
  float logits[FASTLENET_CLASSES], total = 0.0f;
  int best = 0;
  fastlenet_logits(image, logits);
  for (int k = 1; k < FASTLENET_CLASSES; ++k) {
    if (logits[k] > logits[best]) {
      best = k;
    }
  }
  if (probabilities) {
    for (int k = 0; k < FASTLENET_CLASSES; ++k) {
      probabilities[k] = fastlenet_exp(logits[k] - logits[best]);
      total += probabilities[k];
    }
    for (int k = 0; k < FASTLENET_CLASSES; ++k) {
      probabilities[k] /= total;
    }
  }
  return best;
}
